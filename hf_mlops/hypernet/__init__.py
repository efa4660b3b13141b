"""The hypernetwork: weight spaces, loss signals and prompts, the denoiser, its training, sampling."""
