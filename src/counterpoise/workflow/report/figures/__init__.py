"""Numbers in, Vega-Lite specifications out. Altair is imported when a figure is drawn, not before."""
