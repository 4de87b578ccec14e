"""The machine: paths and files, processes, versions, checked settings; nothing here knows quantization."""
