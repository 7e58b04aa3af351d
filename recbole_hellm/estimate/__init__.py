"""What a run will take, told before it starts: sizes from settings and files, refusal, batch sizes by free memory."""
