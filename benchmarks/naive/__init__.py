"""The method as first written down: dense graphs, all-node contrast, a full prompt per sample, one user per forward."""
