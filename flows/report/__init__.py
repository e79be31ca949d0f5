"""What programs and people see of a run; nothing here changes a mosaic.

`schema` is report.json, typed (`report.schema.json` is the same for other languages), `report`
fills it, `accountability` says what was owed, `workload` what is left to do. `preview` and
`slot_report` are the pictures and pages, `save` puts all of it beside the mosaic, `artifacts` is
what the Prefect UI shows, `drift` how passes of one geometry differ, `figures` what those see who
watch regions. They may import `outcome` and all below it; everything above imports them.
"""
