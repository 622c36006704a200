"""What a study leaves behind: records, predictions, events, and the folder that holds them.

It is the only thing that running and analysing share, and imports without torch.
"""

from fewtune.records.events import append_event as append_event
from fewtune.records.files import PART as PART
from fewtune.records.files import open_atomically as open_atomically
from fewtune.records.files import write_atomically as write_atomically
from fewtune.records.folder import StudyPredictions as StudyPredictions
from fewtune.records.folder import find_last_run as find_last_run
from fewtune.records.folder import list_written as list_written
from fewtune.records.folder import load_events as load_events
from fewtune.records.folder import load_planned as load_planned
from fewtune.records.folder import load_predictions as load_predictions
from fewtune.records.folder import load_records as load_records
from fewtune.records.folder import write_planned as write_planned
from fewtune.records.looks import Look as Look
from fewtune.records.looks import LookHistory as LookHistory
from fewtune.records.looks import load_looks as load_looks
from fewtune.records.looks import write_looks as write_looks
from fewtune.records.notes import CutInputs as CutInputs
from fewtune.records.notes import DemonstrationNotes as DemonstrationNotes
from fewtune.records.notes import FitNotes as FitNotes
from fewtune.records.notes import MethodNotes as MethodNotes
from fewtune.records.notes import Notes as Notes
from fewtune.records.notes import ParameterGroupNotes as ParameterGroupNotes
from fewtune.records.notes import PromptNotes as PromptNotes
from fewtune.records.notes import ReferenceNotes as ReferenceNotes
from fewtune.records.notes import ScratchpadNotes as ScratchpadNotes
from fewtune.records.notes import SharedRows as SharedRows
from fewtune.records.notes import TeacherNotes as TeacherNotes
from fewtune.records.notes import TriedSetting as TriedSetting
from fewtune.records.notes import TuningNotes as TuningNotes
from fewtune.records.packed_files import PACKED_PREDICTIONS as PACKED_PREDICTIONS
from fewtune.records.packed_files import PACKED_RECORDS as PACKED_RECORDS
from fewtune.records.packed_files import is_packed as is_packed
from fewtune.records.packing import pack as pack
from fewtune.records.packing import unpack as unpack
from fewtune.records.schema import IN_DOMAIN as IN_DOMAIN
from fewtune.records.schema import PHASES as PHASES
from fewtune.records.schema import Breakdown as Breakdown
from fewtune.records.schema import Cell as Cell
from fewtune.records.schema import Checkpoint as Checkpoint
from fewtune.records.schema import Cost as Cost
from fewtune.records.schema import Failure as Failure
from fewtune.records.schema import FailureKind as FailureKind
from fewtune.records.schema import Record as Record
from fewtune.records.schema import TrialAxes as TrialAxes
from fewtune.records.study_file import load_study_entry as load_study_entry
from fewtune.records.trial_files import PREDICTION_COLUMNS as PREDICTION_COLUMNS
from fewtune.records.trial_files import RecordFiles as RecordFiles
from fewtune.records.trial_files import encode_record as encode_record
from fewtune.records.trial_files import load_record as load_record
from fewtune.records.trial_files import predictions_path as predictions_path
from fewtune.records.trial_files import record_path as record_path
from fewtune.records.trial_files import write_files as write_files
from fewtune.records.trial_files import write_record as write_record
