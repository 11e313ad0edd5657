"""For those who run pipelines: assess references, select samples, watch for collapse, and report with intervals."""
