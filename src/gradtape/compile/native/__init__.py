"""Kernels as machine code. In the order of reading: fusion (which ops become one), places (index arithmetic),
roots and nests (loops over memory), schedule (which loops run together), lanes (ops on vectors), walk and
emit (their text), threads, engine (LLVM, and machine code as a builtin of Python), llvm (all of it).
"""
