"""Small search networks with the structure of DARTS, DARTS-PT and PC-DARTS, in the style of those code bases."""
