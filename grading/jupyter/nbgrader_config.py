"""What the Validate button follows on the learner's desk: the settings that the labs are built and graded with."""

from grading.nbgrader_config import settings

c = get_config()  # noqa: F821 - nbgrader defines it
c.merge(settings())
c.Execute.kernel_name = "solo-warm"  # PyTorch is loaded in it when it starts
c.Execute.shutdown_kernel = "immediate"
c.KernelManager.transport_encryption = "auto"  # as `solo start` asks of JupyterLab's own kernels
