"""Tiny transformers of the torch benchmark: two layers, 32 wide, four heads, as the real models wire them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

_Built = tuple[Any, tuple[Any, ...], dict[str, Any]]

_TEXT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "vocab_size": 99,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_GROUPED = {"num_key_value_heads": 2}
_VISION = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "image_size": 32,
    "patch_size": 8,
}
_PAIR = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "vocab_size": 99,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
}
_GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 99, "bos_token_id": 1, "eos_token_id": 2}
_SPEECH = {
    **_TEXT,
    "conv_dim": (16, 16),
    "conv_stride": (5, 2),
    "conv_kernel": (10, 3),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 4,
    "mask_time_prob": 0.0,
    "layerdrop": 0.0,
}


def _ids() -> Any:
    import torch

    return torch.randint(3, 90, (2, 9), generator=torch.Generator().manual_seed(1))


def _model(head: str, config: str, options: Mapping[str, Any]) -> Any:
    """A network in evaluation mode that keeps no cache and spells its attention out."""
    import transformers

    made = getattr(transformers, config)(**options)
    for part in (made, *(getattr(made, name, None) for name in ("text_config", "vision_config"))):
        if part is not None and hasattr(part, "use_cache"):
            part.use_cache = False
    found = getattr(transformers, head)
    module = (found.from_config(made) if head.startswith("Auto") else found(made)).eval()
    module.set_attn_implementation("eager")
    return module


def _text(config: str, head: str, **options: Any) -> Callable[[], _Built]:
    """A network over token ids."""
    return lambda: (_model(head, config, {**_TEXT, **options}), (_ids(),), {})


def _causal(config: str, **options: Any) -> Callable[[], _Built]:
    return _text(config, "AutoModelForCausalLM", **options)


def _plain(config: str, head: str, options: Mapping[str, Any]) -> Callable[[], _Built]:
    return lambda: (_model(head, config, options), (_ids(),), {})


def _pair(config: str, head: str, options: Mapping[str, Any]) -> Callable[[], _Built]:
    """An encoder and a decoder over token ids."""
    return lambda: (
        _model(head, config, options),
        (),
        {"input_ids": _ids(), "decoder_input_ids": _ids(), "use_cache": False},
    )


def _image(config: str, head: str, side: int = 32, **options: Any) -> Callable[[], _Built]:
    def build() -> _Built:
        import torch

        return _model(head, config, options), (torch.randn(2, 3, side, side),), {}

    return build


def _speech(config: str, head: str, **options: Any) -> Callable[[], _Built]:
    def build() -> _Built:
        import torch

        return _model(head, config, {**_SPEECH, **options}), (torch.randn(2, 400),), {}

    return build


def _whisper() -> _Built:
    import torch

    options = {**_PAIR, "num_mel_bins": 8, "max_source_positions": 10, "max_target_positions": 20}
    module = _model("WhisperForConditionalGeneration", "WhisperConfig", options)
    keywords = {"input_features": torch.randn(2, 8, 20), "decoder_input_ids": _ids(), "use_cache": False}
    return module, (), keywords


def _clip() -> _Built:
    import torch

    text = {**_TEXT, "projection_dim": 16}
    options = {"text_config": text, "vision_config": {**_VISION, "projection_dim": 16}, "projection_dim": 16}
    keywords = {"input_ids": _ids(), "pixel_values": torch.randn(2, 3, 32, 32)}
    return _model("CLIPModel", "CLIPConfig", options), (), keywords


_T5 = {
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 64,
    "num_layers": 2,
    "num_heads": 4,
    "vocab_size": 99,
    "decoder_start_token_id": 0,
}
_CLASSIFY = "AutoModelForSequenceClassification"
_IMAGES = "AutoModelForImageClassification"

CONFIGURATIONS: Mapping[str, Callable[[], _Built]] = {
    "albert": _text("AlbertConfig", _CLASSIFY, embedding_size=16),
    "bart": _pair("BartConfig", "BartForConditionalGeneration", _PAIR),
    "beit": _image("BeitConfig", _IMAGES, **_VISION),
    "bert": _text("BertConfig", _CLASSIFY),
    "bloom": _plain(
        "BloomConfig",
        "AutoModelForCausalLM",
        {"hidden_size": 32, "n_layer": 2, "n_head": 4, "vocab_size": 99},
    ),
    "clip": _clip,
    "clip_vision": _image("CLIPVisionConfig", "CLIPVisionModelWithProjection", **_VISION, projection_dim=16),
    "convbert": _text("ConvBertConfig", _CLASSIFY, embedding_size=32, head_ratio=2, conv_kernel_size=3),
    "convnext": _image("ConvNextConfig", _IMAGES, 64, hidden_sizes=[16, 32], depths=[1, 1], num_stages=2),
    "deberta": _text("DebertaConfig", _CLASSIFY),
    "deberta_v2": _text("DebertaV2Config", _CLASSIFY),
    "deit": _image("DeiTConfig", "DeiTForImageClassification", **_VISION),
    "dinov2": _image("Dinov2Config", _IMAGES, **{**_VISION, "mlp_ratio": 2}),
    "distilbert": _plain(
        "DistilBertConfig",
        _CLASSIFY,
        {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "vocab_size": 99},
    ),
    "electra": _text("ElectraConfig", _CLASSIFY, embedding_size=16),
    "falcon": _plain(
        "FalconConfig",
        "AutoModelForCausalLM",
        {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 99},
    ),
    "gemma": _causal("GemmaConfig", **_GROUPED, head_dim=8),
    "gemma2": _causal("Gemma2Config", **_GROUPED, head_dim=8),
    "gemma3": _causal("Gemma3TextConfig", **_GROUPED, head_dim=8),
    "gpt2": _plain("GPT2Config", "AutoModelForCausalLM", _GPT),
    "gpt_neo": _text(
        "GPTNeoConfig",
        "AutoModelForCausalLM",
        num_layers=2,
        num_heads=4,
        attention_types=[[["global", "local"], 1]],
    ),
    "gpt_neox": _causal("GPTNeoXConfig"),
    "gptj": _plain("GPTJConfig", "AutoModelForCausalLM", {**_GPT, "rotary_dim": 4}),
    "hubert": _speech("HubertConfig", "AutoModelForCTC"),
    "llama": _causal("LlamaConfig", **_GROUPED),
    "mamba": _causal("MambaConfig", state_size=4),
    "mamba2": _causal("Mamba2Config", state_size=4, num_heads=8, head_dim=8, n_groups=2, chunk_size=4),
    "mistral": _causal("MistralConfig", **_GROUPED),
    "mixtral": _causal("MixtralConfig", **_GROUPED, num_local_experts=4),
    "modernbert": _text("ModernBertConfig", _CLASSIFY, cls_token_id=1, sep_token_id=2),
    "mpnet": _text("MPNetConfig", _CLASSIFY),
    "mpt": _plain(
        "MptConfig", "AutoModelForCausalLM", {"d_model": 32, "n_layers": 2, "n_heads": 4, "vocab_size": 99}
    ),
    "olmo": _causal("OlmoConfig", **_GROUPED),
    "olmo2": _causal("Olmo2Config", **_GROUPED),
    "opt": _text("OPTConfig", "AutoModelForCausalLM", ffn_dim=64, word_embed_proj_dim=32),
    "phi": _causal("PhiConfig"),
    "phi3": _causal("Phi3Config", **_GROUPED),
    "pegasus": _pair("PegasusConfig", "PegasusForConditionalGeneration", _PAIR),
    "qwen2": _causal("Qwen2Config", **_GROUPED),
    "qwen2_moe": _causal(
        "Qwen2MoeConfig",
        **_GROUPED,
        num_experts=4,
        moe_intermediate_size=32,
        shared_expert_intermediate_size=32,
    ),
    "qwen3": _causal("Qwen3Config", **_GROUPED, head_dim=8),
    "roberta": _text("RobertaConfig", _CLASSIFY),
    "segformer": _image(
        "SegformerConfig",
        _IMAGES,
        64,
        hidden_sizes=[8, 16, 32, 64],
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 2, 2, 4],
    ),
    "stablelm": _causal("StableLmConfig", **_GROUPED),
    "starcoder2": _causal("Starcoder2Config", **_GROUPED),
    "swin": _image(
        "SwinConfig",
        _IMAGES,
        image_size=32,
        patch_size=2,
        embed_dim=16,
        depths=[2, 2],
        num_heads=[2, 4],
        window_size=4,
    ),
    "swinv2": _image(
        "Swinv2Config",
        _IMAGES,
        image_size=32,
        patch_size=2,
        embed_dim=16,
        depths=[2, 2],
        num_heads=[2, 4],
        window_size=4,
    ),
    "t5": _pair("T5Config", "T5ForConditionalGeneration", _T5),
    "vit": _image("ViTConfig", _IMAGES, **_VISION),
    "wav2vec2": _speech("Wav2Vec2Config", "AutoModelForCTC"),
    "wavlm": _speech("WavLMConfig", "AutoModelForCTC"),
    "whisper": _whisper,
}
"""How to build each, by name."""
