"""A page on which videos are made: workflows run by jobs in processes of their own, shown in a browser (Gradio)."""
