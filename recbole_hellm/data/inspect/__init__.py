"""``recbole-hellm inspect``: what is in a data set and what can mislead, on one page."""
