"""A class on one server: JupyterHub's and nbgrader's configuration, from one file that names people and places."""
