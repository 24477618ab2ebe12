# The pipeline of this folder, for diffusers' custom_pipeline; needs the package animate-anyone
from animate_anyone import AnimateAnyonePipeline as Pipeline  # noqa: F401
