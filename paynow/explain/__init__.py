"""Why a decision is what it is, what would have changed it, and whether it comes out the same again. Knows no terminal and no HTTP."""
