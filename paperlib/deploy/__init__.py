"""From fake quantization to real integers."""
