"""Lightning callbacks: what looks on while a network trains."""
