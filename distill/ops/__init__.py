"""Operations on boxes and maps; torch alone."""
