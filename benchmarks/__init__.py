"""Measure artifacts: size, multiply-adds, latency and pictures, and print them as tables."""
