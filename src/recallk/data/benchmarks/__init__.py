"""The benchmarks of the field, one file each: read from their archives as these unpack."""
