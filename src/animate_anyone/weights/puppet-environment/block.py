# The blocks of this folder, for diffusers' ModularPipeline; needs the package animate-anyone
from animate_anyone.sampling.modular_blocks_environment import AnimateAnyone2Blocks  # noqa: F401
