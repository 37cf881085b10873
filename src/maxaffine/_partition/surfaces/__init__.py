"""Level sets of a network in three dimensions, exactly, as meshes of polygons."""
