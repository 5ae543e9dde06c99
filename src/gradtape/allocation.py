"""Where large arrays come from: on glibc from its heap, which keeps what is freed for the next."""

import numpy as np

__all__ = ["use_the_heap"]

# Blocks of up to 32 MB can raise the threshold (DEFAULT_MMAP_THRESHOLD_MAX on 64 bits), with their header.
_LARGEST = 2**25 - 2**16


def use_the_heap() -> None:
    """Lets glibc's malloc keep freed arrays of up to 32 MB for the next, in place of giving them back.

    At first it maps each large block anew from the kernel, and gives it back when freed, so that every page
    of a new array costs a fault, which is more than the arithmetic on it. Above which size it does so is a
    threshold that grows to the largest mapped block that was freed (M_MMAP_THRESHOLD in mallopt(3)), and how
    much of the heap's end stays is twice that. One such block, never touched, is made and freed here; other
    allocators take no notice.
    """
    np.empty(_LARGEST, np.uint8)
