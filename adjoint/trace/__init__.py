"""Recording: what a tensor operation does in place of running. Begin with `trie.py`, then `recorder.py`."""
