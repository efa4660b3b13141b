"""A pickle to be planted where none may be loaded, written by hand, so that no test needs Python's module of that name."""

PICKLE = b"cpytest\nfail\n(S'a pickle was loaded'\ntR."  # pytest.fail("a pickle was loaded")
