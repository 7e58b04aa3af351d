"""Data preparation: source files to RecBole's atomic files, item texts and item features."""
