"""nbgrader on a class's server: the course, the exchange, and the settings that labs are built and graded with."""

import getpass
from pathlib import Path

from grading.classroom.hub.settings import read
from grading.nbgrader_config import settings

of_class = read()

c = get_config()  # noqa: F821 - nbgrader defines it
c.merge(settings())
c.CourseDirectory.course_id = of_class.course
c.Exchange.root = str(of_class.exchange)
if getpass.getuser() in of_class.instructors:
    c.CourseDirectory.root = str(Path.home() / of_class.course)
