"""Kernels that need not load PyTorch first: for JupyterLab's Validate."""
