"""The numerics behind the recipes; a recipe's `search` imports its own when it is called."""
