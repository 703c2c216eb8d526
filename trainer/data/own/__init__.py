"""From files of one's own to a data set: images in folders, tables, arrays."""
