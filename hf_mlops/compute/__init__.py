"""Where and how tensors are computed: devices, progress, losses, regressions. torch begins here."""
