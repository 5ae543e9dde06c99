"""What a tape knows of itself: why a gradient is None, where a NaN was born, what it holds, and a picture."""
