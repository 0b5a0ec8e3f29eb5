"""Records of the lake delivered again."""
