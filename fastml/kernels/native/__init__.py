"""Cython and C SIMD: compiled ahead of time, every ISA rung in one build. README.md beside this file is its map."""
