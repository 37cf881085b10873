"""Arrays as pictures (inputs, signed templates in colors symmetric about zero, lines, bars) and words as tables."""

from maxaffine._drawing.colors import CLASSES, LIGHTER, LIGHTER_BANDS
from maxaffine._drawing.histograms import Spread, spread_axes, spread_figure
from maxaffine._drawing.mosaic import draw_strokes, fill_polygons
from maxaffine._drawing.panels import LINES, Panel, draw_panel, panel_axes, panel_figure, scale_end, thinned
from maxaffine._drawing.pixels import SIGNED, color_map, input_pixels, png_of, signed_pixels, template_pixels
from maxaffine._drawing.sequences import SequencePicture, sequence_axes, sequence_figure
from maxaffine._drawing.shapes import (
    MOST_CHANNELS,
    Kind,
    channels_of,
    is_image,
    is_stack,
    kind_of,
    shown,
    side_by_side,
    slice_places,
)
from maxaffine._drawing.sheet import DPI, axes_for, new_figure, png, require, say, short, svg, whole_sheet
from maxaffine._drawing.solid import SOLID_SCRIPT, SOLID_STYLE, Solid
from maxaffine._drawing.tables import Tabular, html_table, text_table
