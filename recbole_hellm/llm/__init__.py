"""The language model: backbone with LoRA, graph prefix, prompt."""
