"""An agency whose bureau is paused is due for the sweeper, with or without work."""

from django.db import migrations

from clearing.lookups import DUE_WITH_PAUSES_SQL


class Migration(migrations.Migration):
    dependencies = [("clearing", "0004_keep_backups")]

    operations = [
        migrations.RunSQL("DROP FUNCTION due_agencies(text)", migrations.RunSQL.noop),
        migrations.RunSQL(DUE_WITH_PAUSES_SQL, migrations.RunSQL.noop),
    ]
