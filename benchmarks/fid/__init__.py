"""Distances between sets of pictures: FID and KID on the published Inception weights, fd_random without any."""
