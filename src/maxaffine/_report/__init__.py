"""Figures and one self-contained page about a captured network; the numbers come from the other rooms."""

from maxaffine._report.collect import assemble
from maxaffine._report.contents import Contents
from maxaffine._report.coordinates import around, coordinate_plane
from maxaffine._report.drawn_plane import DrawnPlane, Window, array, drawn_array, number
from maxaffine._report.facts import Choices, LeftOut
from maxaffine._report.figures import plane_figure
from maxaffine._report.files import ARRAYS, FIGURES, PAGE, RESULTS, WEIGHTS, new_folder, require_packages, write
from maxaffine._report.labels import LabelOrder
from maxaffine._report.layout import DRAWN
from maxaffine._report.lookup import look_up, lookup_text
from maxaffine._report.plane_page import MOST_CELLS, plane_page
from maxaffine._report.report import Report, report
from maxaffine._report.results import as_json, as_text, plain
from maxaffine._report.spectra import amplitudes, frequencies, frequency_shares, frequency_unit, is_timed
from maxaffine._report.subject import Meaning, Subject, as_array, find_subject, like_model, spread_evenly
