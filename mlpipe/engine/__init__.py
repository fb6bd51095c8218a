"""How a plan is carried out: memory into block sizes, threads around one compute stage."""
