"""The two equations as Triton kernels; only `impl="triton"` imports the modules of this package."""
