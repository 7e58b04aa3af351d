"""What a run costs: memory and operations from shapes alone, seconds from measured rates. Plain values, no RecBole."""
