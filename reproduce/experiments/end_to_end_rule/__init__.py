"""Deep linear networks beside one layer trained by the end-to-end rule."""
