"""Training: what a phase is, and the loop that runs one.  Nothing here knows a particular paper's recipe."""
