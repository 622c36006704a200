"""Bad input of every kind thrown at the command line, and what comes back judged and counted.

python -m benchmarks.attack            some minutes on two cores; writes benchmarks/results/attack.json
python -m benchmarks.attack --smoke    a few cases of the cheap kinds, some seconds; writes nothing
"""
