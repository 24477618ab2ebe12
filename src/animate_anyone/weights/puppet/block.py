# The blocks of this folder, for diffusers' ModularPipeline; needs the package animate-anyone
from animate_anyone.sampling.modular_blocks import AnimateAnyoneBlocks  # noqa: F401
