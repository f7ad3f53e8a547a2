"""From encoded files to pixels: decoding, colours, crops."""
