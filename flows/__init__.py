"""The orchestration: what runs where and when, and what people see of it.

Only here do `catalog` and `tar_engine` meet, which know nothing of each other, nor of Prefect.

`register_region` is the front door: a request, or a plan, becomes one Prefect run. `run_region`
tells the story of its days, `tasks` are its steps, `outcome` what became of a day. From the ground
up: `progress`, `cluster`, `plan`, `stages`, `outcome`, `report`, `tasks`, `run_region`,
`register_region`, `service`, `cli`; each may import those before it, never those after.
"""
