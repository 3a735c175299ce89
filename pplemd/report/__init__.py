"""Reports: what runs left in their folders and what was drawn from them, as one HTML page. Knows nothing of JAX."""

from pplemd.report.page import page as page
from pplemd.report.subject import RaisedAlarm as RaisedAlarm
from pplemd.report.subject import ReportData as ReportData
from pplemd.report.subject import Subject as Subject
from pplemd.report.subject import subjects as subjects
