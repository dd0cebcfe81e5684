"""Where labelled examples of defects are kept and searched: files, an embedded Qdrant, a Qdrant server."""
