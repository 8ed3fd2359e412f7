"""The learner's dashboard: what the record amounts to (`data`), as one page (`page`), served live (`server`).

In JupyterLab the same page is beside the notebook (`extension`), where a save confirms what passed (`confirming`).
"""
