"""Ops that are known and left alone on purpose, each with the reason that users read.

An op is here because no axis of it has channels (text, sequences, random numbers), because what it does cannot be
said of single channels, or because nothing but a GPU of one kind runs it. Giving one of them a rule takes it out.
"""

from __future__ import annotations

from dataclasses import dataclass

from prunec.ir.op import Op
from prunec.ir.registry import register
from prunec.ir.rule import Rule, RuleError
from prunec.ir.site import Site

_CONTRIB = "com.microsoft"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused(Op):
    """An op of which no axis can be cut.

    Attributes:
        reason: why, for people.
    """

    reason: str

    def rule(self, site: Site) -> Rule:
        """None.

        Raises:
            RuleError: always.
        """
        del site
        raise RuleError(self.reason)


_STANDARD = {
    "how much it finds depends on the data": "NonZero Unique NonMaxSuppression",
    "it makes a matrix of its input's size": "EyeLike",
    "it works along a signal in time": "STFT",
    "it makes a table of a given size": "BlackmanWindow HammingWindow HannWindow MelWeightMatrix Range",
    "it makes coordinates": "AffineGrid",
    "its indices count the elements of all channels": "MaxUnpool",
    "the shape of its input is unknown": "Shape Size",
    "its labels number the classes": "NegativeLogLikelihoodLoss SoftmaxCrossEntropyLoss",
    "it draws random numbers, of which a smaller tensor gets others": (
        "Bernoulli Multinomial RandomNormal RandomNormalLike RandomUniform RandomUniformLike"
    ),
    "it handles a sequence of tensors": (
        "ConcatFromSequence SequenceAt SequenceConstruct SequenceEmpty SequenceErase SequenceInsert "
        "SequenceLength SequenceMap SplitToSequence"
    ),
    "it handles a tensor that may be absent": "Optional OptionalGetElement OptionalHasElement",
    "it works on text": "RegexFullMatch StringConcat StringNormalizer StringSplit TfIdfVectorizer",
    "it decodes files": "ImageDecoder",
    "it is of the time before ONNX 1.2": "DynamicSlice GRUUnit GivenTensorFill ImageScaler",
}

_MICROSOFT = {
    "how much it finds depends on the data": "Unique NGramRepeatBlock RemovePadding RestorePadding",
    "it makes a table of a given size": "Range",
    "it works along a signal in time": "Irfft Rfft DynamicTimeWarping UnfoldTensor",
    "it works on text": "Tokenizer WordConvEmbedding MurmurHash3 NGramHashMapping VarlenNGramHashMapping",
    "it searches with decoders of its own inside": "BeamSearch GreedySearch Sampling WhisperBeamSearch",
    "it is a compiled graph of one device": "EPContext Snpe",
    "its weight is packed without regard to rows": (
        "MatMulBnb4 MatMulFpQ4 MatMulBlockQuantizedFp4Weight MatMulBlockQuantizedFp8Weight MatMulNBitsMlp "
        "MatMulNBitsQkv QuantizeBFP DequantizeBFP"
    ),
    "its weight is in the order of one kind of GPU": (
        "DequantizeWithOrder QOrderedAttention QOrderedGelu QOrderedLayerNormalization "
        "QOrderedLongformerAttention QOrderedMatMul QuantizeWithOrder GemmFloat8"
    ),
    "its weight is sparse": "SparseToDenseMatMul",
    "its sequences are packed one behind the other": (
        "PackedAttention PackedMultiHeadAttention PagedAttention SparsePagedAttention VarlenCausalConvWithState "
        "PackedSparseAttentionIndexer"
    ),
    "its attention is sparse or local by position": (
        "LongformerAttention SparseAttention SparseAttentionIndexer DynamicSparseAttention"
    ),
    "it is attention of one decoding step, whose caches belong to the caller": (
        "DecoderAttention DecoderMaskedMultiHeadAttention DecoderMaskedSelfAttention"
    ),
    "it is a recurrent layer with attention inside": "AttnLSTM GatedDeltaNet",
    "it adds a learnt bias for every head and distance": "GatedRelativePositionBias RelativePositionBias",
    "it mixes pairs or sections of an axis": (
        "ComplexMul ComplexMulConj MRotaryEmbedding GemmaRotaryEmbedding BranchwiseRMSNorm "
        "HyperConnectionPostMix HyperConnectionPreMix EngramGate"
    ),
    "it is for training": "BiasDropout BitmaskBiasDropout BitmaskDropout BifurcationDetector IsAllFinite SampleOp",
    "it runs on DirectML alone": "FusedMatMulActivation NhwcConv NhwcFusedConv",
    "its numbers are of single heads": "LinearAttentionGate",
    "it samples an image at computed positions": "CropAndResize",
    "it looks rows up in a table": "TorchEmbedding",
}


def register_ops() -> None:
    """Register the ops."""
    for domain, table in (("", _STANDARD), (_CONTRIB, _MICROSOFT)):
        for reason, names in table.items():
            register(names, Refused(reason=reason), domain=domain)
