"""Settings: typed specs over RecBole's flat yaml keys."""
