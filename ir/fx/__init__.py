"""The dialect of ``torch``: programs captured by ``torch.export`` as modules of the IR, and back.

``capture`` makes a module of an ``nn.Module``, ``importer`` of a program that is captured already; ``lower``
makes a ``torch.fx.GraphModule`` of a module. Everything else of the dialect is reached through
:mod:`prunec.ir.dialect`. Only modules of this package import torch, and only when they are used.
"""
