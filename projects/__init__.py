"""One click command per entry point of MLproject: parse, call a step of hf_mlops, print."""
